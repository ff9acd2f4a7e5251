#include <stdio.h>

#include "aftermach.h"

int main(int argc, char **argv) {
    int result = argc > 2 ? aftermach_install(argv[1], argv[2], NULL, NULL) : 0;
    aftermach_breadcrumb("hello");
    result += aftermach_set("state", "running") + aftermach_remove("state");
    result += aftermach_rearm() + aftermach_dump_without_crashing();
    aftermach_detach_for_child();
    result += aftermach_uninstall();
    puts(aftermach_message(result));
    puts("hello");
    return 0;
}
