"""From noise to latents: the transition of one step, guidance, and the denoising loop."""
