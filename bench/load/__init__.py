"""Loads as the OpenMessaging Benchmark defines them, run against any client and plotted."""
