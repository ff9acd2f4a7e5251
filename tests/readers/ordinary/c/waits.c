/* One thread in a kind of wait, while main dies. The first argument names the wait; "all" makes a thread for each. */
#include "death.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int two = 2;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spinlock;
static pthread_t main_thread;
static _Atomic pid_t waiter;

static int *new_pipe(void) {
    int *ends = malloc(2 * sizeof(int));
    if (pipe(ends) != 0)
        abort();
    return ends;
}
static int unix_socket(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* An abstract name that the kernel chooses. */
    if (bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0 || listen(fd, 1) != 0)
        abort();
    return fd;
}
static int *new_pair(void) {
    int *ends = malloc(2 * sizeof(int));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        abort();
    return ends;
}

static int wait_mutex(void) { return pthread_mutex_lock(&held); }
static int wait_condition(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    return pthread_cond_wait(&condition, &mutex);
}
static int wait_condition_timed(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    struct timespec until = {.tv_sec = time(NULL) + 60};
    pthread_mutex_lock(&mutex);
    return pthread_cond_timedwait(&condition, &mutex, &until);
}
static int wait_rwlock(void) { return pthread_rwlock_rdlock(&rwlock); }
static int wait_barrier(void) {
    static pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    return pthread_barrier_wait(&barrier);
}
static int wait_semaphore(void) {
    static sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    return sem_wait(&semaphore);
}
static int wait_join(void) { return pthread_join(main_thread, NULL); }
static int wait_futex(void) {
    static int word = 7;
    return (int)syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 7, NULL, NULL, 0);
}
static int wait_pipe(void) {
    char byte;
    return (int)read(new_pipe()[0], &byte, 1);
}
static int wait_full_pipe(void) {
    static char bytes[1 << 20];
    return (int)write(new_pipe()[1], bytes, sizeof bytes);
}
static int wait_readv(void) {
    char byte;
    return (int)readv(new_pipe()[0], &(struct iovec){&byte, 1}, 1);
}
static int wait_poll(void) { return poll(&(struct pollfd){.fd = new_pipe()[0], .events = POLLIN}, 1, -1); }
static int wait_ppoll(void) {
    return ppoll(&(struct pollfd){.fd = new_pipe()[0], .events = POLLIN}, 1, &(struct timespec){.tv_sec = 60}, NULL);
}
static int wait_select(void) {
    fd_set set;
    int fd = new_pipe()[0];
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, NULL);
}
static int wait_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int fd = epoll_create1(0);
    epoll_ctl(fd, EPOLL_CTL_ADD, new_pipe()[0], &event);
    return epoll_wait(fd, &event, 1, -1);
}
static int wait_nanosleep(void) { return nanosleep(&(struct timespec){.tv_sec = 60}, NULL); }
static int wait_sleep(void) { return (int)sleep(60); }
static int wait_usleep(void) { return usleep(60 * 1000 * 1000); }
static int wait_accept(void) { return accept(unix_socket(), NULL, NULL); }
static int wait_receive(void) {
    char byte;
    return (int)recv(new_pair()[0], &byte, 1, 0);
}
static int wait_receive_message(void) {
    char byte;
    struct iovec part = {&byte, 1};
    return (int)recvmsg(new_pair()[0], &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1}, 0);
}
static int wait_child(void) {
    pid_t child = fork();
    if (child == 0) {
        /* It ends when its parent does. */
        while (getppid() != 1 && two)
            usleep(20000);
        _exit(0);
    }
    return waitpid(child, NULL, 0);
}
static int wait_pause(void) { return pause(); }
static int wait_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static int wait_sigwait(void) {
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return sigwait(&set, &signal);
}
static int wait_signalfd(void) {
    sigset_t set;
    struct signalfd_siginfo information;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return (int)read(signalfd(-1, &set, 0), &information, sizeof information);
}
static int wait_eventfd(void) {
    eventfd_t value;
    return eventfd_read(eventfd(0, 0), &value);
}
static int wait_timerfd(void) {
    long expirations;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(fd, 0, &(struct itimerspec){.it_value = {.tv_sec = 60}}, NULL);
    return (int)read(fd, &expirations, sizeof expirations);
}
static int wait_inotify(void) {
    char event[4096];
    int fd = inotify_init1(0);
    inotify_add_watch(fd, "/", IN_DELETE_SELF);
    return (int)read(fd, event, sizeof event);
}
static int wait_flock(void) {
    char name[] = "flock-XXXXXX";
    int one = mkstemp(name), other = open(name, O_RDWR);
    unlink(name);
    flock(one, LOCK_EX);
    return flock(other, LOCK_EX);
}
static int wait_record_lock(void) {
    char name[] = "lock-XXXXXX";
    int one = mkstemp(name), other = open(name, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK};
    unlink(name);
    fcntl(one, F_OFD_SETLK, &lock);
    return fcntl(other, F_OFD_SETLKW, &lock);
}
static int wait_message_queue(void) {
    char message[16], name[64];
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = sizeof message};
    snprintf(name, sizeof name, "/aftermach-%d", getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    mq_unlink(name);
    return (int)mq_receive(queue, message, sizeof message, NULL);
}
static int wait_io_uring(void) {
    char parameters[120] = {0};
    int ring = (int)syscall(425 /* io_uring_setup */, 4, parameters);
    /* Where it is not permitted, the death is another one: exit. */
    if (ring < 0)
        exit(77);
    return (int)syscall(426 /* io_uring_enter */, ring, 0, 1, 1 /* IORING_ENTER_GETEVENTS */, NULL, 0);
}
static int wait_vfork(void) {
    pid_t child = vfork();
    if (child == 0) {
        /* The parent's thread stands still until this is over. */
        syscall(SYS_nanosleep, &(struct timespec){.tv_sec = 2}, NULL);
        _exit(0);
    }
    return child;
}
static int wait_spinlock(void) { return pthread_spin_lock(&spinlock); }
static NOINLINE int churn(int n) { return n < 2 ? two : churn(n - 1) + churn(n - 2) * 3; }
static int wait_busy(void) {
    for (;;)
        two = churn(15) & 3;
}
static void waits_in_handler(int signal) {
    if (signal == SIGUSR1)
        pause();
}
static int wait_in_handler(void) {
    struct sigaction action = {.sa_handler = waits_in_handler};
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}
static int wait_in_handler_on_other_stack(void) {
    struct sigaction action = {.sa_handler = waits_in_handler, .sa_flags = SA_ONSTACK};
    sigaltstack(&(stack_t){.ss_sp = malloc(65536), .ss_size = 65536}, NULL);
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}
static void raises_again(int signal) {
    (void)signal;
    wait_in_handler_on_other_stack();
}
static int wait_in_nested_handler(void) {
    struct sigaction action = {.sa_handler = raises_again};
    sigaction(SIGUSR2, &action, NULL);
    return raise(SIGUSR2);
}

static const struct wait {
    const char *name;
    int (*wait)(void);
} waits[] = {
    {"mutex", wait_mutex}, {"condition", wait_condition}, {"condition-timed", wait_condition_timed},
    {"rwlock", wait_rwlock}, {"barrier", wait_barrier}, {"semaphore", wait_semaphore}, {"join", wait_join},
    {"futex", wait_futex}, {"pipe", wait_pipe}, {"full-pipe", wait_full_pipe}, {"readv", wait_readv},
    {"poll", wait_poll}, {"ppoll", wait_ppoll}, {"select", wait_select}, {"epoll", wait_epoll},
    {"nanosleep", wait_nanosleep}, {"sleep", wait_sleep}, {"usleep", wait_usleep}, {"accept", wait_accept},
    {"receive", wait_receive}, {"receive-message", wait_receive_message}, {"child", wait_child},
    {"pause", wait_pause}, {"sigsuspend", wait_sigsuspend}, {"sigwait", wait_sigwait}, {"signalfd", wait_signalfd},
    {"eventfd", wait_eventfd}, {"timerfd", wait_timerfd}, {"inotify", wait_inotify}, {"flock", wait_flock},
    {"record-lock", wait_record_lock}, {"message-queue", wait_message_queue}, {"io-uring", wait_io_uring},
    {"spinlock", wait_spinlock}, {"busy", wait_busy}, {"in-handler", wait_in_handler},
    {"in-handler-on-other-stack", wait_in_handler_on_other_stack}, {"in-nested-handler", wait_in_nested_handler},
    /* The last: the others would wait for it. */
    {"vfork", wait_vfork},
};
enum { WAITS = sizeof waits / sizeof *waits };

static void *thread(void *argument) {
    const struct wait *wait = argument;
    pthread_setname_np(pthread_self(), wait->name);
    waiter = (pid_t)syscall(SYS_gettid);
    int result = wait->wait();
    AFTER_CALL(result);
    return NULL;
}

/* The letter that the kernel has for what a thread does: S sleeps, D sleeps and can't be woken, R runs. */
static char state_of(pid_t tid) {
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "r");
    if (!file)
        return '?';
    char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return end ? end[2] : '?';
}

static void start(const struct wait *wait) {
    pthread_t id;
    waiter = 0;
    pthread_create(&id, NULL, thread, (void *)wait);
    int runs = wait->wait == wait_spinlock || wait->wait == wait_busy;
    for (int settled = 0; settled < 5;) {
        usleep(4000);
        char state = waiter ? state_of(waiter) : '?';
        settled = state == 'S' || state == 'D' || (runs && state == 'R') ? settled + 1 : 0;
    }
}

int main(int argc, char **argv) {
    main_thread = pthread_self();
    pthread_mutex_lock(&held);
    pthread_rwlock_wrlock(&rwlock);
    pthread_spin_init(&spinlock, 0);
    pthread_spin_lock(&spinlock);
    int all = argc > 1 && strcmp(argv[1], "all") == 0, started = 0;
    for (int i = 0; i < WAITS; i++)
        if (all ? waits[i].wait != wait_vfork : argc > 1 && strcmp(argv[1], waits[i].name) == 0) {
            start(&waits[i]);
            started++;
        }
    return started ? die() : 2;
}
