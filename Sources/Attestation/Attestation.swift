// Room Attestation.
