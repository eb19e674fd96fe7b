"""Who is where: a picture's regions, and objects followed through a film by look, motion and edges."""
