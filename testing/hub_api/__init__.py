"""The parts of `testing/hub_server.py`."""
