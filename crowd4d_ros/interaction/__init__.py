"""Where people and scene meet (Sec. 3.2): metric scale, SIPC, SIS, HSIP."""
