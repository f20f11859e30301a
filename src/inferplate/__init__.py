"""inferplate: a Copier template for inference services, and the tool that proves its variants."""
