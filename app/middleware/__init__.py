"""What every request goes through before a route and every answer after it."""
