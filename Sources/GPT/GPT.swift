// Room GPT.
