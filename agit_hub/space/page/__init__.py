"""The Space's page: one module for each tab, and what they share."""
