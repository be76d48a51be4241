"""What is measured, one package a subject; `results/` holds what was measured."""
