// What Swift's Glibc module leaves out: ioctl numbers, mounts, reboot, modules, spawn attributes.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
// With _GNU_SOURCE a member of fd_set has another name than in Swift's Glibc module, which refuses the difference.
#include <features.h>
#undef __USE_XOPEN
#include <sys/select.h>
#define __USE_XOPEN 1
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int nacre_ioctl(int fd, unsigned long request, void *argument) { return ioctl(fd, request, argument); }
static inline int nacre_finit_module(int fd, const char *parameters, int flags) {
    return (int)syscall(SYS_finit_module, fd, parameters, flags);
}
// fsopen(2) asks for the file system's module.
static inline int nacre_fsopen(const char *type) { return (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */); }
static inline dev_t nacre_makedev(unsigned int major, unsigned int minor) { return makedev(major, minor); }
// glibc declares addresses as transparent unions under _GNU_SOURCE, which do not import.
static inline int nacre_accept4(int fd, int flags) { return accept4(fd, 0, 0, flags); }
static inline int nacre_bind(int fd, const void *name, socklen_t size) { return bind(fd, (const struct sockaddr *)name, size); }
static inline int nacre_connect(int fd, const void *name, socklen_t size) { return connect(fd, (const struct sockaddr *)name, size); }
static inline int nacre_socket_port(int fd) {
    struct sockaddr_in6 name = {0};
    socklen_t size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) != 0) return -1;
    // sin_port and sin6_port stand at the same place.
    return name.sin6_family == AF_INET || name.sin6_family == AF_INET6 ? ntohs(name.sin6_port) : -1;
}
// epoll(7): the structure of an event is a packed union, which does not import.
static inline int nacre_epoll_add(int epoll, int fd, int output) {
    struct epoll_event event = {.events = output ? EPOLLOUT : EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}
// Tells of the next event and then no more, until it is set again.
static inline int nacre_epoll_once(int epoll, int fd, int output, int again) {
    struct epoll_event event = {.events = (output ? EPOLLOUT : EPOLLIN) | EPOLLONESHOT, .data.fd = fd};
    return epoll_ctl(epoll, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}
static inline int nacre_epoll_wait(int epoll, int *ready, int count, int milliseconds) {
    struct epoll_event events[64];
    int found = epoll_wait(epoll, events, count < 64 ? count : 64, milliseconds);
    for (int i = 0; i < found; i++) ready[i] = events[i].data.fd;
    return found;
}
static const unsigned long nacre_dm_dev_create = DM_DEV_CREATE;
static const unsigned long nacre_dm_table_load = DM_TABLE_LOAD;
static const unsigned long nacre_dm_dev_suspend = DM_DEV_SUSPEND;
static const int nacre_renameat2_noreplace = RENAME_NOREPLACE;

// Processes by handle, so that a signal never reaches a stranger that inherited the number (pidfd_open(2)).
static inline int nacre_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
static inline int nacre_pidfd_send_signal(int pidfd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, 0, 0);
}
// linux/kvm.h: _IO(0xAE, n); plain numbers here because its headers clash with others on some systems.
static const unsigned long nacre_kvm_get_api_version = 0xAE00;
static const unsigned long nacre_kvm_create_vm = 0xAE01;
static const unsigned long nacre_kvm_create_vcpu = 0xAE41;
static inline unsigned long long nacre_timestamp_counter(void) {
    unsigned int low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (unsigned long long)high << 32 | low;
}
// prctl is variadic, which does not import.
static inline int nacre_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
// sched_setaffinity(2), to the first processor allowed: its sets are made by macros, which do not import.
static inline int nacre_run_on_one(void) {
    cpu_set_t allowed, one;
    size_t first = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return -1;
    while (first < CPU_SETSIZE && !CPU_ISSET(first, &allowed)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    return sched_setaffinity(0, sizeof one, &one);
}
