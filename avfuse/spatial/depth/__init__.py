"""LiDAR and depth cameras beside a camera."""
