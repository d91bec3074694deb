// Room TDX.
