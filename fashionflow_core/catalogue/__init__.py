"""Many photos: read from folders and lists, made by workers on one or many devices, resumed, and shown in a page."""
