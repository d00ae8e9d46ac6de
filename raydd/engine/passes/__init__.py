"""What is read off all real images."""
