/* buildit-start PARTS PROGRAM [ARGUMENT...]: joins PROGRAM from PARTS/part-0, PARTS/part-1, ... and becomes it.
 *
 * A pod gets the runner from ConfigMaps, which hold no more than a mebibyte each. That needs neither an image nor a
 * container of its own, each of which would cost every pod a second and more. In C, since it has to fit into one of
 * them whole, and the smallest static program of Rust's standard library does not. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what) {
    const char *why = strerror(errno);
    write(2, "buildit-start: ", 15);
    write(2, what, strlen(what));
    write(2, ": ", 2);
    write(2, why, strlen(why));
    write(2, "\n", 1);
    _exit(1);
}

static void append(int to, int from, const char *name) {
    static char piece[1 << 16];
    ssize_t got;
    while ((got = read(from, piece, sizeof piece)) != 0) {
        if (got < 0) die(name);
        for (ssize_t put = 0, n; put < got; put += n) {
            if ((n = write(to, piece + put, got - put)) < 0) die(name);
        }
    }
}

int main(int argc, char **argv) {
    char part[PATH_MAX], unfinished[PATH_MAX];
    if (argc < 3) {
        errno = EINVAL;
        die("usage: buildit-start PARTS PROGRAM [ARGUMENT...]");
    }
    if (snprintf(unfinished, sizeof unfinished, "%s.unfinished", argv[2]) >= (int)sizeof unfinished) die(argv[2]);
    /* What an earlier start left half written is written anew. */
    int to = open(unfinished, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0755);
    if (to < 0) die(unfinished);
    for (int number = 0;; number++) {
        if (snprintf(part, sizeof part, "%s/part-%d", argv[1], number) >= (int)sizeof part) die(argv[1]);
        int from = open(part, O_RDONLY | O_CLOEXEC);
        if (from < 0 && errno == ENOENT && number > 0) break;
        if (from < 0) die(part);
        append(to, from, part);
        close(from);
    }
    /* The user of the image may have any umask. */
    if (fchmod(to, 0755) < 0 || close(to) < 0 || rename(unfinished, argv[2]) < 0) die(argv[2]);
    execv(argv[2], argv + 2);
    die(argv[2]);
}
