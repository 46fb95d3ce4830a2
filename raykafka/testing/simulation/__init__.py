"""The real actors in one thread, on virtual time, network and disks that come from one seed."""
