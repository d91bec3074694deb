// Room Manifest.
