// Room TPM.
