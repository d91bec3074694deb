// Room SEVSNP.
