"""How good is it: metrics, tables, and the paper's ablations."""
