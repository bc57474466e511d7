package main

import "google.golang.org/grpc/codes"

// The canonical names, in place of Go's own spelling.
var codeNames = map[codes.Code]string{
	codes.InvalidArgument:    "INVALID_ARGUMENT",
	codes.NotFound:           "NOT_FOUND",
	codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Unauthenticated:    "UNAUTHENTICATED",
	codes.PermissionDenied:   "PERMISSION_DENIED",
	codes.ResourceExhausted:  "RESOURCE_EXHAUSTED",
	codes.DeadlineExceeded:   "DEADLINE_EXCEEDED",
	codes.Unavailable:        "UNAVAILABLE",
	codes.Internal:           "INTERNAL",
}

func codeName(code codes.Code) string {
	if name, ok := codeNames[code]; ok {
		return name
	}
	return code.String()
}
