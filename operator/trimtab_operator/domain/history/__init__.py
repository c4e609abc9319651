"""What was decided about a service, by whom and on which figures: gathered from what the cluster still knows, and shown."""
