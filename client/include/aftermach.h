/* aftermach.h: the Aftermach client, for C, C++, Objective-C and Swift.
 *
 * Link libaftermach_client.a. Call aftermach_install once, early; if the program crashes after that, the Aftermach service
 * reports it. Nothing of this runs at the moment of the crash.
 *
 * No function allocates, starts a thread, or installs a signal handler. Those marked [signal] may be called in a signal
 * handler and in the child of a fork. Strings are UTF-8 and copied.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef AFTERMACH_H
#define AFTERMACH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions return. Other numbers may come with later versions: treat them as failure. */
enum {
    AFTERMACH_OK = 0,
    AFTERMACH_ALREADY_INSTALLED = 1,   /* by this image or another one of the process */
    AFTERMACH_NOT_INSTALLED = 2,
    AFTERMACH_IN_PROGRESS = 3,         /* another thread is installing or uninstalling */
    AFTERMACH_ARGUMENT = 4,            /* a name, version or option is not acceptable */
    AFTERMACH_NO_SERVICE = 5,          /* not installed, switched off, or not visible from here */
    AFTERMACH_REFUSED_BY_SANDBOX = 6,
    AFTERMACH_REFUSED_BY_SYSTEM = 7,   /* Linux: ptrace is not permitted */
    AFTERMACH_HARDENED = 8,            /* macOS: may not set exception ports this way */
    AFTERMACH_PORT_REFUSED = 9,        /* macOS: the service's port is not taken as an exception port */
    AFTERMACH_NOT_HONOURED = 10,       /* macOS: accepted, but not set */
    AFTERMACH_ALREADY_TRACED = 11,     /* by a debugger or another service */
    AFTERMACH_SERVICE_BUSY = 12,
    AFTERMACH_NOT_PERMITTED = 13,      /* the service does not serve this user */
    AFTERMACH_INCOMPATIBLE = 14,       /* no common protocol, or the system is too old for what was asked */
    AFTERMACH_IMPOSTOR = 15,           /* another user's process answers in place of the service */
    AFTERMACH_TIMEOUT = 16,
    AFTERMACH_SYSTEM = 17,             /* anything else */

    AFTERMACH_KEY = 32,                /* a key is empty or longer than 64 bytes */
    AFTERMACH_FULL = 33,               /* all 64 annotations are taken */
    AFTERMACH_BUSY = 34                /* the same key is being written at this moment; that value stays */
};

/* Flags of struct aftermach_options. */
enum {
    AFTERMACH_CRASH_ONLY = 1,          /* macOS: deaths only, no first-chance hardware exceptions; for JITs */
    AFTERMACH_PROTECTED = 2,           /* macOS: name the process by identity token, whatever the system */
    AFTERMACH_CLASSIC = 4,             /* macOS: name it by task port; fatal in hardened processes */
    AFTERMACH_SERVICE_PORT = 8,        /* macOS: register launchd's port for the service, or none */
    AFTERMACH_OWN_PORT = 16            /* macOS: register a port that the service makes for this process */
};

/* Optional. Set it to zeros, then size, then what is wanted. */
struct aftermach_options {
    uint32_t size;                     /* sizeof(struct aftermach_options) */
    uint32_t flags;
    const char *version;               /* of the product, at most 63 bytes; may be NULL */
    const char *service;               /* another service: Mach service name, or socket path on Linux; may be NULL */
    uint32_t timeout_ms;               /* for the service's answers; 0 for the default, 2000 */
    uint32_t reserved;                 /* 0 */
};

/* Has this process's crashes reported. group: app group or reverse domain ("TEAMID.com.example"); name: the product;
 * channel: the release channel, NULL or "" for stable. options may be NULL. Where it fails nothing is changed, and the
 * program goes on unreported. */
int aftermach_install(const char *group, const char *name, const char *channel, const struct aftermach_options *options);

/* Takes aftermach_install back; what was set before is set again. Annotations stay. */
int aftermach_uninstall(void);

/* Renews the registration if the service was replaced; cheap if it was not. */
int aftermach_rearm(void);

/* In the child of a fork, before exec: frees it from its parent's registration. Not after vfork. [signal] */
void aftermach_detach_for_child(void);

/* Has the process reported as it stands; it goes on living. Returns when the snapshot is taken. */
int aftermach_dump_without_crashing(void);

/* Sets a key (64 bytes at most) to a value (cut after 432 bytes) for the report; NULL removes it. Works before
 * aftermach_install too. [signal] */
int aftermach_set(const char *key, const char *value);

/* Removes a key; that it is not set is no error. [signal] */
int aftermach_remove(const char *key);

/* Leaves a line (cut after 224 bytes) for the report, which shows the last 64. [signal] */
void aftermach_breadcrumb(const char *text);

/* What a returned number means, in English. [signal] */
const char *aftermach_message(int code);

#ifdef __cplusplus
}
#endif

#endif
