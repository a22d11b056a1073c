"""What is on offer, and what of it this device takes."""
