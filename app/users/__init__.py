"""Users: who they are, how they sign in, what they may do, and what belongs to them."""
