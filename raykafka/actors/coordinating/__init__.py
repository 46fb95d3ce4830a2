"""Coordinators: state machines on the logs of internal topics, served where those are led."""
