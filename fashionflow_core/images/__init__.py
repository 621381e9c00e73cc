"""Photos and pixels: opening files, colour management, fitting to a frame, finding the person."""
