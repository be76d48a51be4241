"""The model: loading it, its stages, and the device it runs on. The only package that imports torch."""
