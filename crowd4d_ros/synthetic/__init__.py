"""Crowds with exact truth: terrain, people, cameras, and what an initializer would see of them."""
