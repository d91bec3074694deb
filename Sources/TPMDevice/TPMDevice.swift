// Room TPMDevice.
