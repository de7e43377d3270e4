/* refuse NUMBERS COMMAND...: runs the command where the system calls NUMBERS (joined by commas) fail: with EPERM; those
 * marked by a - with ENOSYS, so that others are tried; those marked by a + with EAGAIN, where they start a thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST = 64 };

#define LOAD(field) (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define JUMP(how, value, yes, no) (struct sock_filter)BPF_JUMP(BPF_JMP | (how) | BPF_K, value, yes, no)
#define RETURN(what) (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what)

int main(int count, char **words)
{
    struct sock_filter filter[MOST];
    unsigned short n = 0;
    if (count < 3)
        return 2;
    for (char *word = strtok(words[1], ","); word; word = strtok(NULL, ",")) {
        unsigned number = (unsigned)atoi(word);
        filter[n++] = LOAD(nr);
        if (strchr(word, '+')) {
            filter[n++] = JUMP(BPF_JEQ, number, 0, 3);
            filter[n++] = LOAD(args[0]);
            filter[n++] = JUMP(BPF_JSET, CLONE_THREAD, 0, 1);
            filter[n++] = RETURN(SECCOMP_RET_ERRNO | EAGAIN);
        } else {
            filter[n++] = JUMP(BPF_JEQ, number, 0, 1);
            filter[n++] = RETURN(SECCOMP_RET_ERRNO | (strchr(word, '-') ? ENOSYS : EPERM));
        }
    }
    filter[n++] = RETURN(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 77;
    execvp(words[2], words + 2);
    return 127;
}
