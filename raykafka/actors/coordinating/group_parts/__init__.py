"""Parts of the group coordinators: settings, the view of topics, heartbeats that are held back."""
