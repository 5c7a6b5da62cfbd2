"""Muster: registers fleets of database instances and retires them without leaving a row behind."""
