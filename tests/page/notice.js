// Stands for the notifications of the system: those that the page shows are in window.notices
(answer) => {
    window.notices = [];
    window.Notification = class {
        static permission = "default";
        static async requestPermission() { return this.permission = answer; }
        constructor(title, options) { this.title = title; this.options = options; window.notices.push(this); }
        close() { this.closed = true; }
    };
}
