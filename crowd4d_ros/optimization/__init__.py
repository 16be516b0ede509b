"""The staged optimisation of crowd and scale (Sec. 3.3–3.5, App. A)."""
