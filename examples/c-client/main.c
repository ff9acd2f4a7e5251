/* A C program that has its crashes reported.
 *
 *   cargo build --release -p aftermach-client
 *   cc -I client/include examples/c-client/main.c target/release/libaftermach_client.a -lpthread -ldl -o c-client   (Linux)
 *   cc -I client/include examples/c-client/main.c target/release/libaftermach_client.a -o c-client                  (macOS)
 *
 *   ./c-client GROUP NAME [crash | dump]
 */
#include "aftermach.h"

#include <stdio.h>
#include <string.h>

static void serve(int request) {
    char text[64];
    snprintf(text, sizeof text, "request %d", request);
    aftermach_breadcrumb(text);
    aftermach_set("request", text + strlen("request "));
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s GROUP NAME [crash | dump]\n", argv[0]);
        return 64;
    }
    struct aftermach_options options = {.size = sizeof options, .version = "1.0"};
    int result = aftermach_install(argv[1], argv[2], NULL, &options);
    if (result != AFTERMACH_OK) {
        /* The program goes on all the same. */
        fprintf(stderr, "crashes will not be reported: %s\n", aftermach_message(result));
    }
    aftermach_set("state", "serving");
    for (int request = 1; request <= 3; request++) {
        serve(request);
    }
    if (argc > 3 && strcmp(argv[3], "crash") == 0) {
        aftermach_set("state", "about to write to address 0");
        *(volatile int *)0 = 1;
    }
    if (argc > 3 && strcmp(argv[3], "dump") == 0) {
        /* Something is wrong, but the program can go on. */
        int dumped = aftermach_dump_without_crashing();
        printf("dump: %s\n", aftermach_message(dumped));
    }
    aftermach_remove("request");
    printf("%d\n", result);
    return 0;
}
