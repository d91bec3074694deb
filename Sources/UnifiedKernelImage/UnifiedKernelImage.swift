// Room UnifiedKernelImage.
