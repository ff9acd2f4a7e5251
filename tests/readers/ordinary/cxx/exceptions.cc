// Exceptions that end the program, by each way to std::terminate, and what throws them.
#include "../c/death.h"

#include <any>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <new>
#include <optional>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <typeinfo>
#include <variant>
#include <vector>

namespace {

volatile int two = 2;

struct Cleanup {
    ~Cleanup() { two = two + 1; }
};
struct ThrowsInDestructor {
    ~ThrowsInDestructor() noexcept(false) {
        if (two == 2)
            throw std::runtime_error("destructor");
    }
};
struct Base {
    virtual ~Base() = default;
    virtual int value() const { return 1; }
};
struct Derived : Base {
    int value() const override { return 2; }
};
struct Other : Base {};

NOINLINE int parse(const std::string &text) {
    Cleanup cleanup;
    if (text.size() < 40)
        throw std::runtime_error("short: " + text);
    return text[3];
}
NOINLINE int reads(const std::string &text) {
    Cleanup cleanup;
    return parse(text) + 1;
}
void uncaught() { two = reads("header"); }
void uncaught_int() { throw 42; }
void rethrown() {
    try {
        reads("header");
    } catch (const std::exception &) {
        throw;
    }
}
void replaced() {
    try {
        reads("header");
    } catch (const std::exception &) {
        std::throw_with_nested(std::logic_error("outer"));
    }
}
NOINLINE int promises(int n) noexcept { return reads("header") + n; }
void through_noexcept() { two = promises(two); }
void in_destructor() {
    ThrowsInDestructor thrower;
    throw std::runtime_error("body");
}
void terminates() { std::terminate(); }
void own_handler() {
    std::set_terminate([] { die(); });
    uncaught();
}
void at() {
    std::vector<int> values{1, 2, 3};
    two = values.at(7 + two);
}
void substring() { two = std::string("abc").substr(7 + two).size(); }
void to_number() { two = std::stoi("twelve"); }
void no_memory() {
    two = (new char[(1ul << 62) + two])[3];
}
void bad_cast() {
    Other other;
    Base &base = other;
    two = dynamic_cast<Derived &>(base).value();
}
void bad_function() {
    std::function<int(int)> none;
    two = none(3);
}
void bad_variant() {
    std::variant<int, std::string> value = "text";
    two = std::get<int>(value);
}
void bad_optional() {
    std::optional<int> none;
    if (two == 2)
        two = none.value();
}
void bad_any() { two = std::any_cast<int>(std::any(std::string("text"))); }
void bad_regex() { std::regex expression("(unclosed"); }
void in_thread() {
    std::thread thread([] { reads("header"); });
    thread.join();
}
void joinable() {
    static std::atomic<bool> runs{false};
    std::thread thread([] {
        runs = true;
        std::this_thread::sleep_for(std::chrono::seconds(60));
    });
    while (!runs)
        std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
}
void future() {
    auto result = std::async(std::launch::async, [] { return reads("header"); });
    two = result.get();
}
void deferred() {
    auto result = std::async(std::launch::deferred, [] { return die(); });
    two = result.get();
}
// The handler's frame is that of the function that catches: a fault there stands on an ordinary stack again.
void after_catch() {
    try {
        reads("header");
    } catch (const std::exception &error) {
        two = error.what()[0] == 's' ? die() : 0;
    }
}

}  // namespace

int main(int argc, char **argv) {
    static const death deaths[] = {
        {"uncaught", uncaught}, {"uncaught-int", uncaught_int}, {"rethrown", rethrown}, {"replaced", replaced},
        {"through-noexcept", through_noexcept}, {"in-destructor", in_destructor}, {"terminates", terminates},
        {"own-handler", own_handler}, {"at", at}, {"substring", substring}, {"to-number", to_number},
        {"no-memory", no_memory}, {"bad-cast", bad_cast}, {"bad-function", bad_function},
        {"bad-variant", bad_variant}, {"bad-optional", bad_optional}, {"bad-any", bad_any}, {"bad-regex", bad_regex},
        {"in-thread", in_thread}, {"joinable", joinable}, {"future", future}, {"deferred", deferred},
        {"after-catch", after_catch},
    };
    return DISPATCH(deaths, argc, argv);
}
