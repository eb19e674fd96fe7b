"""Room for the web page and the webcam session. Empty so far."""
