"""Container engines: who builds images and exports them."""
