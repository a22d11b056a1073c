"""What is reported of the device: the picture, who shows it here, and who sends it away."""
