"""What a pose is likely to be: priors that the optimizer's latent codes decode through."""
