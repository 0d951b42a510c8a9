"""What the shop does apart from serving it: used by its three web applications."""
