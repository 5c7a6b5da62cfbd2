"""Long work that survives: what is asked for and how far it is (tables), who does it (engine), and how (runner)."""
