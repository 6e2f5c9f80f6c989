"""Ways into libraries that have layers and models of their own."""
