"""inferplate: a Copier template for inference services, and the command line that updates them."""
