// Process 1 of every pod: holds its namespaces until it is told to end. No library is behind it, so that its bytes
// follow from the compiler alone.

static long call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

enum { rt_sigaction = 13, rt_sigprocmask = 14, rt_sigtimedwait = 128, exit_group = 231 };
enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17 };

// Entered with the stack as execve(2) leaves it, not as a caller would.
__attribute__((force_align_arg_pointer)) void _start(void) {
    // Children that end are nobody's business: ignored, the kernel reaps them (sigaction(2): handler SIG_IGN is 1).
    unsigned long ignore[4] = {1, 0, 0, 0};
    call(rt_sigaction, SIGCHLD, (long)ignore, 0, 8);
    // Process 1 gets no signal that it does not wait for.
    unsigned long ends = 1ul << (SIGINT - 1) | 1ul << (SIGTERM - 1);
    call(rt_sigprocmask, 0, (long)&ends, 0, 8);
    while (call(rt_sigtimedwait, (long)&ends, 0, 0, 8) < 0) {
    }
    call(exit_group, 0, 0, 0, 0);
    __builtin_unreachable();
}
