"""Images onto images, without correspondences."""
