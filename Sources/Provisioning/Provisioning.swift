// Room Provisioning.
