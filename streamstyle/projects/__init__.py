"""What is kept of a painted film, and the film painted again where its Look has changed."""
