// A wall clock that can be stepped while its process runs: the offset, in microseconds, stands in a file that is mapped.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void attach(void) {
  const char *file = getenv("TORTURE_CLOCK");
  int fd = file ? open(file, O_RDONLY) : -1;
  if (fd < 0) return;
  void *page = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) offset = page;
}

static int64_t ahead(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, at);
  if (code == 0 && clock == CLOCK_REALTIME) {
    int64_t nanos = at->tv_sec * INT64_C(1000000000) + at->tv_nsec + ahead() * 1000;
    at->tv_sec = nanos / INT64_C(1000000000);
    at->tv_nsec = nanos % INT64_C(1000000000);
  }
  return code;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
