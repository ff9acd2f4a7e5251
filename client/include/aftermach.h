/* aftermach.h: the Aftermach client, for C, C++, Objective-C and Swift.
 *
 * Link libaftermach_client.a. Call aftermach_install once, early; if the program crashes after that, the Aftermach service
 * reports it. Nothing of this runs at the moment of the crash.
 *
 * No function allocates, starts a thread, or installs a signal handler. Those marked [signal] may be called in a signal
 * handler and in the child of a fork. Strings are UTF-8 and copied. Numbers that functions return may be others in later
 * versions: treat what you don't know as failure.
 *
 * Made by cbindgen; don't edit.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef AFTERMACH_H
#define AFTERMACH_H

#include <stdint.h>

// Done.
#define AFTERMACH_OK 0

// By this image or another one of the process.
#define AFTERMACH_ALREADY_INSTALLED 1

// The client is not installed.
#define AFTERMACH_NOT_INSTALLED 2

// Another thread is installing or uninstalling.
#define AFTERMACH_IN_PROGRESS 3

// A name, version or option is not acceptable.
#define AFTERMACH_ARGUMENT 4

// Not installed, switched off, or not visible from here.
#define AFTERMACH_NO_SERVICE 5

// The sandbox, or the service's file permissions, forbid it.
#define AFTERMACH_REFUSED_BY_SANDBOX 6

// Linux: ptrace is not permitted.
#define AFTERMACH_REFUSED_BY_SYSTEM 7

// macOS: may not set exception ports this way.
#define AFTERMACH_HARDENED 8

// macOS: the service's port is not taken as an exception port.
#define AFTERMACH_PORT_REFUSED 9

// macOS: accepted, but not set.
#define AFTERMACH_NOT_HONOURED 10

// By a debugger or another service.
#define AFTERMACH_ALREADY_TRACED 11

// The service has as many clients as it takes.
#define AFTERMACH_SERVICE_BUSY 12

// The service does not serve this user.
#define AFTERMACH_NOT_PERMITTED 13

// No common protocol, or the system is too old for what was asked.
#define AFTERMACH_INCOMPATIBLE 14

// Another user's process answers in place of the service.
#define AFTERMACH_IMPOSTOR 15

// The service did not answer in time.
#define AFTERMACH_TIMEOUT 16

// Anything else.
#define AFTERMACH_SYSTEM 17

// A key is empty or longer than 64 bytes.
#define AFTERMACH_KEY 32

// All 64 annotations are taken.
#define AFTERMACH_FULL 33

// The same key is being written at this moment; that value stays.
#define AFTERMACH_BUSY 34

// Flag, macOS: deaths only, no first-chance hardware exceptions; for JITs.
#define AFTERMACH_CRASH_ONLY 1

// Flag, macOS: name the process by identity token, whatever the system.
#define AFTERMACH_PROTECTED 2

// Flag, macOS: name it by task port; fatal in hardened processes.
#define AFTERMACH_CLASSIC 4

// Flag, macOS: register launchd's port for the service, or none.
#define AFTERMACH_SERVICE_PORT 8

// Flag, macOS: register a port that the service makes for this process.
#define AFTERMACH_OWN_PORT 16

// Optional. Set it to zeros, then size, then what is wanted. It only grows at its end.
struct aftermach_options {
    // sizeof(struct aftermach_options)
    uint32_t size;
    // AFTERMACH_CRASH_ONLY and the other flags
    uint32_t flags;
    // of the product, at most 63 bytes; may be NULL
    const char *version;
    // another service: Mach service name, or socket path on Linux; may be NULL
    const char *service;
    // for the service's answers; 0 for the default, 2000
    uint32_t timeout_ms;
    // 0
    uint32_t reserved;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Has this process's crashes reported. `group`: app group or reverse domain ("TEAMID.com.example"); `name`: the product;
// `channel`: the release channel, NULL or "" for stable. Where it fails nothing is changed, and the program goes on unreported.
//
// # Safety
// Strings are NULL or end in NUL; `options` is NULL or points at `options->size` bytes.
int aftermach_install(const char *group,
                      const char *name,
                      const char *channel,
                      const struct aftermach_options *options);

// Takes aftermach_install back; what was set before is set again. Annotations stay.
int aftermach_uninstall(void);

// Renews the registration if the service was replaced; cheap if it was not.
int aftermach_rearm(void);

// In the child of a fork, before exec: frees it from its parent's registration. Not after vfork. [signal]
void aftermach_detach_for_child(void);

// Has the process reported as it stands; it goes on living. Returns when the snapshot is taken. A process may have ten of these at
// once, and then one a minute: AFTERMACH_SERVICE_BUSY.
int aftermach_dump_without_crashing(void);

// Sets a key (64 bytes at most) to a value (cut after 432 bytes) for the report; NULL removes it. Works before
// aftermach_install too. [signal]
//
// # Safety
// Both are NULL or end in NUL.
int aftermach_set(const char *key, const char *value);

// Removes a key; that it is not set is no error. [signal]
//
// # Safety
// The key is NULL or ends in NUL.
int aftermach_remove(const char *key);

// Leaves a line (cut after 224 bytes) for the report, which shows the last 64. [signal]
//
// # Safety
// The text is NULL or ends in NUL.
void aftermach_breadcrumb(const char *text);

// What a returned number means, in English. [signal]
const char *aftermach_message(int code);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AFTERMACH_H */
